"""Pages for people: one HTML file each, with everything in it, no script, nothing fetched; and plots inside them."""
