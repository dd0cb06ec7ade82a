//! tmp
fn main() -> anyhow::Result<()> { xtask::codegen::generate(&xtask::root()) }
