//! Command line definitions and exit codes.
