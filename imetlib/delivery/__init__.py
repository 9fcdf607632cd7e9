"""What leaves the project: submissions, run records, executed notebooks and the report."""
