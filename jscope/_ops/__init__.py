"""TF1's operations on variables: ``(tree, name, ...) -> tree``."""
