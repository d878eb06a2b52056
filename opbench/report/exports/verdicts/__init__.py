"""What was judged, as tools for tests and for findings read it. `judging` makes one noun of a document of any kind;
the other modules write it. What is told here is text of a document that may come from anybody.
"""
