//! What operators get to see, made from what was read: pure, no I/O.

pub mod record;
pub mod spans;
pub mod timeline;
pub mod tree;
