//! Compiles the contract, for specs in JSON.

use std::{env, fs, path::Path};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=../proto");
    let mut compiler = protox::Compiler::new(["../proto"])?;
    let set = compiler.include_imports(true).open_file("backprop/v1/model.proto")?;
    let path = Path::new(&env::var("OUT_DIR")?).join("contract.binpb");
    fs::write(path, set.encode_file_descriptor_set())?;
    Ok(())
}
