"""Methods: what DUET is compared with, by name, and how each is fitted."""
