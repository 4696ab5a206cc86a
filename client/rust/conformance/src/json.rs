//! Values of the protocol as values of the client.

use std::fs;

use backprop_client::v1::{Batch, DataType, ModelSpec, NamedTensor, Tensor};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage};
use serde_json::{Map, Value, json};

fn spec_descriptor() -> prost_reflect::MessageDescriptor {
    let bytes = include_bytes!(concat!(env!("OUT_DIR"), "/contract.binpb"));
    let pool = DescriptorPool::decode(&bytes[..]).expect("the contract is valid");
    pool.get_message_by_name("backprop.v1.ModelSpec").expect("the contract has a ModelSpec")
}

/// A spec from JSON. The client has enums, so a wrong name is an error of this function.
pub fn spec_from(value: &Value) -> Result<ModelSpec, String> {
    let message = DynamicMessage::deserialize(spec_descriptor(), value);
    let message = message.map_err(|error| format!("spec: {error}"))?;
    ModelSpec::decode(&message.encode_to_vec()[..]).map_err(|error| error.to_string())
}

pub fn spec_to(spec: &ModelSpec) -> Value {
    let message = DynamicMessage::decode(spec_descriptor(), &spec.encode_to_vec()[..]);
    serde_json::to_value(message.expect("a spec is a spec")).expect("a spec is JSON")
}

pub fn tensor_from(value: &Value) -> Tensor {
    let shape: Vec<usize> = items(&value["shape"]).map(|n| n.as_u64().unwrap() as usize).collect();
    let bytes = match value["file"].as_str() {
        Some(path) => fs::read(path).expect("the file of an array can be read"),
        None => STANDARD.decode(value["base64"].as_str().unwrap()).expect("an array is in base64"),
    };
    match value["dtype"].as_str() {
        Some("float64") => {
            let numbers = bytes.as_chunks::<8>().0.iter().map(|bytes| f64::from_le_bytes(*bytes));
            Tensor::from_vec(&shape, numbers.collect())
        }
        _ => {
            let numbers = bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes));
            Tensor::from_vec(&shape, numbers.collect())
        }
    }
}

/// An array; in a file if there is a path.
pub fn tensor_to(tensor: &Tensor, path: Option<String>) -> Value {
    let (dtype, bytes): (&str, Vec<u8>) = match tensor.data_type() {
        DataType::Float64 => (
            "float64",
            tensor.to_vec::<f64>().unwrap().iter().flat_map(|x| x.to_le_bytes()).collect(),
        ),
        _ => (
            "float32",
            tensor.to_vec::<f32>().unwrap().iter().flat_map(|x| x.to_le_bytes()).collect(),
        ),
    };
    let mut value = json!({"shape": tensor.shape, "dtype": dtype});
    match path {
        Some(path) => {
            fs::write(&path, bytes).expect("the file of an array can be written");
            value["file"] = path.into();
        }
        None => value["base64"] = STANDARD.encode(bytes).into(),
    }
    value
}

pub fn named_from(value: &Value) -> Vec<NamedTensor> {
    let tensors = value.as_object().into_iter().flatten();
    tensors.map(|(name, tensor)| NamedTensor::from((name, tensor_from(tensor)))).collect()
}

/// Tensors by name. With a path each is in a file of its own.
pub fn named_to(tensors: &[NamedTensor], path: Option<&str>) -> Value {
    let named = tensors.iter().enumerate().filter_map(|(i, named)| {
        let path = path.map(|path| format!("{path}.{i}"));
        Some((named.name.clone(), tensor_to(named.tensor.as_ref()?, path)))
    });
    Value::Object(named.collect::<Map<_, _>>())
}

pub fn batch_from(args: &Value) -> Batch {
    let inputs = tensor_from(&args["inputs"]);
    if args["targets"].is_object() {
        return Batch::with_targets(inputs, tensor_from(&args["targets"]));
    }
    let labels: Vec<i32> = items(&args["labels"]).map(|n| n.as_i64().unwrap() as i32).collect();
    Batch::with_labels(inputs, labels)
}

pub fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}
