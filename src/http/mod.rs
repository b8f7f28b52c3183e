//! One HTTP exchange: POST one body, get one body.
