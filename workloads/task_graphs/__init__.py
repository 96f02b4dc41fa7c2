"""Jobs as graphs of tasks, and streams of such jobs: what a system on a chip is asked to do, and when."""
