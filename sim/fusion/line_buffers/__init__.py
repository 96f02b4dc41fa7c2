"""Line buffers (LBDF): programs that make a group row by row, and their runs on numbers."""
