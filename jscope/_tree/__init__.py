"""`VarTree`, and what is done with whole trees: selecting, stacking, comparing, printing."""
