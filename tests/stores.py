"""A store as another process would find it: the one place in the tests that looks into a handle."""

from skltransfer import ActivationStore
from skltransfer.engine.storing.folder import ShardFolder


def forget(store):
    """Lose what is in memory; what is in the folder stays."""
    store._memory.clear()


def reopened(folder, **options):
    """A handle as in a new process: nothing in memory, and an index of its own."""
    store = ActivationStore(folder, **options)
    forget(store)
    store._backend = ShardFolder(store.folder, store.max_bytes)
    return store
