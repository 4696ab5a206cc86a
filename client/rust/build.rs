//! Generates the messages and stubs of the contract from `proto`, which is a link to the contract
//! in the source tree and a folder in the packaged crate. Needs no protoc.

use std::{env, path::PathBuf};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("proto");
    let files = [
        "backprop/v1/admin_service.proto",
        "backprop/v1/training_service.proto",
        "google/rpc/error_details.proto",
        "google/rpc/status.proto",
        "grpc/health/v1/health.proto",
    ];
    let descriptors = protox::compile(files, [root])?;
    tonic_prost_build::configure()
        .build_server(false)
        .build_transport(false)
        // Numbers of tensors are not copied out of the buffer in which they arrive.
        .bytes(".backprop.v1")
        // All attempts of a call must send the same bytes, so maps need an order.
        .btree_map(".")
        .include_file("protos.rs")
        .compile_fds(descriptors)?;
    Ok(())
}
