"""Published methods that decide which blocks run at which step, a file each kind of rule."""
