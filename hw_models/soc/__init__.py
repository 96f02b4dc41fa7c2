"""Systems on a chip: clusters of processing elements, what a task takes on each, what moving data takes."""
