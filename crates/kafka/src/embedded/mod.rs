//! A broker and a registry inside this process: for `tidegate dev` and for tests. Both forget on exit.

mod broker;
pub(crate) mod memory;
mod registry;

pub use broker::EmbeddedBroker;
pub(crate) use broker::Mock;
pub use registry::EmbeddedRegistry;
