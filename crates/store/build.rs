//! `sqlx::migrate!` reads the folder at compile time; Cargo must hear of a new file in it.

fn main() {
    println!("cargo:rerun-if-changed=migrations");
}
