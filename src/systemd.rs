//! stub
#![allow(missing_docs, unused)]
pub fn ready() {}
pub fn stopping() {}
pub fn watchdog() {}
pub fn watchdog_interval() -> Option<std::time::Duration> {
    None
}
