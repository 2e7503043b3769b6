"""DUET against everything that a sceptic would try: methods, cells, statistics, report."""
