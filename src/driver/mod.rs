//! The async shell: accept, run, drain.
