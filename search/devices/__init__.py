"""Where predicted and measured times of networks and layers on any machine meet: validation and calibration."""
