"""Methods that search fusion groups, a file each, and the door through which they become known."""
