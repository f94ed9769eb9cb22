"""What a type checker sees of this module, which loads each name when it is first used."""

from skltransfer.domain_adaptation._features import FeatureAdaptedClassifier as FeatureAdaptedClassifier
from skltransfer.domain_adaptation._features import importance_weighted_accuracy as importance_weighted_accuracy
from skltransfer.domain_adaptation._network import DomainAdaptedClassifier as DomainAdaptedClassifier
