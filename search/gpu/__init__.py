"""Where predicted and measured times of GPU kernels meet: validation, calibration, and the ranking of tilings."""
