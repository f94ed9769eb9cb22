"""What the estimators share. Must not know a particular estimator."""
