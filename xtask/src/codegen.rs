//! `cargo xtask codegen`: generates Rust code from the proto files, without any system tool.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use prost::Message;

const FILES: [&str; 12] = [
    "seatmeter/v1/access.proto",
    "seatmeter/v1/audit.proto",
    "seatmeter/v1/authority.proto",
    "seatmeter/v1/enrolment.proto",
    "seatmeter/v1/errors.proto",
    "seatmeter/v1/fleet.proto",
    "seatmeter/v1/ingest.proto",
    "seatmeter/v1/operators.proto",
    "seatmeter/v1/reports.proto",
    "seatmeter/v1/rules.proto",
    "seatmeter/v1/sealed.proto",
    "seatmeter/v1/usage.proto",
];

/// The generated files, which are checked in.
const GENERATED: [&str; 2] = ["seatmeter.v1.rs", "descriptor.bin"];

/// Writes the generated code into `proto/src/generated`.
pub fn generate(root: &Path) -> Result<()> {
    let out = root.join("proto/src/generated");
    fs::create_dir_all(&out)?;
    generate_into(root, &out)
}

/// Accepts the current contract as the baseline that CI checks for breaking changes.
pub fn agree(root: &Path) -> Result<()> {
    check(root)?;
    fs::copy(root.join("proto/src/generated/descriptor.bin"), root.join("proto/contract.binpb"))?;
    println!("proto/contract.binpb is now the current contract; describe the change in CHANGELOG.md");
    Ok(())
}

/// Fails if the checked-in code differs from the code that the proto files generate.
pub fn check(root: &Path) -> Result<()> {
    let fresh = root.join("target/codegen-check");
    fs::create_dir_all(&fresh)?;
    generate_into(root, &fresh)?;
    for name in GENERATED {
        let checked_in = fs::read(root.join("proto/src/generated").join(name))
            .with_context(|| format!("proto/src/generated/{name} is missing: run `cargo xtask codegen`"))?;
        ensure!(
            checked_in == fs::read(fresh.join(name))?,
            "proto/src/generated/{name} does not match the proto files: run `cargo xtask codegen`"
        );
    }
    Ok(())
}

fn generate_into(root: &Path, out: &Path) -> Result<()> {
    let descriptors = protox::compile(FILES, [root.join("proto")])?;
    fs::write(out.join("descriptor.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        .build_transport(false)
        .out_dir(out)
        .emit_rerun_if_changed(false)
        .bytes("seatmeter.v1.Batch.columns")
        .compile_fds(descriptors)?;
    Ok(())
}
