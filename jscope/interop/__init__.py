"""Other libraries' variables beside jscope's, one file for each library."""
