"""Row-stationary convolutions, as Eyeriss runs them."""
