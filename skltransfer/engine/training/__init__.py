"""The training loop and what it needs. Knows neither X nor scikit-learn."""
