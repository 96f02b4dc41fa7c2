"""Networks on machines with unlike groups of cores: which group does which operator, and all of them at once."""
