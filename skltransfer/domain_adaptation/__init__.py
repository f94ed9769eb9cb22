"""Labels in one domain, none in another: adapt features, or the network that makes them."""

from skltransfer.domain_adaptation._features import FeatureAdaptedClassifier, importance_weighted_accuracy
from skltransfer.domain_adaptation._network import DomainAdaptedClassifier

__all__ = ["DomainAdaptedClassifier", "FeatureAdaptedClassifier", "importance_weighted_accuracy"]
