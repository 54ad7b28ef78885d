//! Defects that are built in on purpose, so that the storm (docs/storm.md) can show that it finds them. They exist with the
//! feature `sabotage` only, which nothing turns on but `scripts/storm --sabotage`.

use std::sync::OnceLock;

#[cfg(not(debug_assertions))]
compile_error!("the feature `sabotage` is for the storm's own debug build");

/// Whether the defect of that name is switched on: by the variable `TIDEGATE_SABOTAGE`.
pub fn is_on(name: &str) -> bool {
    static ON: OnceLock<Option<String>> = OnceLock::new();
    let on = ON.get_or_init(|| std::env::var("TIDEGATE_SABOTAGE").ok());
    on.as_deref() == Some(name)
}
