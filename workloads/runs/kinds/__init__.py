"""The kinds of runs that come with the package, a file each."""
