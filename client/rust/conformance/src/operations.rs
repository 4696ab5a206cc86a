//! The operations, each by the public API of the client.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use backprop_client::v1::{Batch, DatasetState, GradCheckVerdict, TrainingEvent};
use backprop_client::{Client, Data, Error, RetryPolicy, Run, Tls};
use futures_util::stream;
use serde_json::{Value, json};

use crate::Events;
use crate::json::{
    batch_from, items, named_from, named_to, spec_from, spec_to, tensor_from, tensor_to,
};

pub enum Failure {
    Error(Error),
    /// The spec cannot be written in this language.
    Spec(String),
    Cancelled,
    Unsupported,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::Error(error)
    }
}

type Outcome = Result<Value, Failure>;

#[derive(Clone, Default)]
pub struct Operations {
    clients: Arc<Mutex<HashMap<String, Client>>>,
}

fn text<'a>(args: &'a Value, key: &str) -> &'a str {
    args[key].as_str().unwrap_or_default()
}

fn timeout(args: &Value) -> Option<Duration> {
    args["timeout_ms"].as_u64().map(Duration::from_millis)
}

/// Sets an option of a call if the arguments have it.
macro_rules! set {
    ($call:ident, $method:ident, $value:expr) => {
        if let Some(value) = $value {
            $call = $call.$method(value);
        }
    };
}

impl Operations {
    pub async fn execute(&self, op: &str, args: &Value, events: &Events) -> Outcome {
        if op == "connect" {
            return self.connect(args);
        }
        let name = args["client"].as_str().unwrap_or("c");
        let client = self.clients.lock().unwrap().get(name).cloned();
        let client = client.unwrap_or_else(|| panic!("there is no client {name}"));
        let model = text(args, "model");
        match op {
            "create_model" | "get_model" | "list_models" | "delete_model" => {
                models(&client, op, args).await
            }
            "train" => train(&client, args, events).await,
            "watch" => watch(&client, args, events).await,
            "stop_training" => {
                let stopped = client.stop_training(model).await?;
                let iterations = stopped.summary.map(|summary| summary.iterations);
                Ok(json!({"run": stopped.run, "iterations": iterations}))
            }
            "step" => {
                let mut call = client.step(model, batch_from(args));
                set!(call, expected_step, args["expected_step"].as_i64());
                set!(call, request_id, args["request_id"].as_str());
                set!(call, timeout, timeout(args));
                let step = call.await?;
                Ok(json!({"step": step.step, "loss": step.loss()}))
            }
            "steps" => steps(&client, args).await,
            "predict" => predict(&client, args).await,
            "evaluate" => {
                let evaluation = client.evaluate(model, data_from(args)).await?;
                let metrics = evaluation.metrics.unwrap_or_default();
                let mut result = json!({"loss": metrics.loss});
                if let Some(accuracy) = metrics.accuracy {
                    result["accuracy"] = accuracy.into();
                }
                Ok(result)
            }
            "grad_check" => {
                let check = client.grad_check(model, batch_from(args)).await?;
                let verdict = match check.verdict() {
                    GradCheckVerdict::Passed => "PASSED",
                    GradCheckVerdict::Failed => "FAILED",
                    _ => "INCONCLUSIVE",
                };
                Ok(json!({"verdict": verdict, "max_relative_error": check.max_relative_error}))
            }
            "compute_gradients" => {
                let gradients = client.compute_gradients(model, batch_from(args)).await?;
                let tensors = named_to(&gradients.gradients, None);
                Ok(json!({"tensors": tensors, "weight": gradients.weight}))
            }
            "apply_gradients" => {
                let mut call = client.apply_gradients(model, named_from(&args["tensors"]));
                set!(call, expected_step, args["expected_step"].as_i64());
                Ok(json!({"step": call.await?.step}))
            }
            "get_parameters" => {
                let parameters = client.get_parameters(model).await?;
                let tensors = named_to(&parameters.tensors, args["to_file"].as_str());
                Ok(json!({"tensors": tensors, "step": parameters.step()}))
            }
            "set_parameters" => {
                let tensors = named_from(&args["tensors"]).into_iter();
                let step = client
                    .set_parameters(model, tensors.collect::<backprop_client::v1::Parameters>())
                    .await?;
                Ok(json!({"step": step}))
            }
            "create_checkpoint" | "restore_checkpoint" | "delete_checkpoint"
            | "list_checkpoints" => checkpoints(&client, op, args).await,
            "upload_dataset" | "get_dataset" | "list_datasets" | "delete_dataset" => {
                datasets(&client, op, args, events).await
            }
            "export_model" => {
                let mut export = client.export_model(model);
                set!(export, timeout, timeout(args));
                Ok(json!({"bytes": export.to_file(text(args, "path")).await?}))
            }
            "import_model" => {
                let mut import = client.import_model(PathBuf::from(text(args, "path")));
                set!(import, id, args["model_id"].as_str());
                set!(import, request_id, args["request_id"].as_str());
                let model = import.await?;
                Ok(json!({"name": model.name, "step": model.step}))
            }
            "health" => Ok(json!({"serving": client.health().await?})),
            _ => Err(Failure::Unsupported),
        }
    }

    fn connect(&self, args: &Value) -> Outcome {
        let mut builder = Client::builder(text(args, "address"));
        set!(builder, token, args["token"].as_str());
        set!(builder, token_file, args["token_file"].as_str());
        if args["ca"].is_string() || args["cert"].is_string() {
            let mut tls = Tls::new();
            set!(tls, ca_file, args["ca"].as_str());
            if let Some(certificate) = args["cert"].as_str() {
                tls = tls.identity_files(certificate, text(args, "key"));
            }
            builder = builder.tls(tls);
        }
        if let Some(retry) = args["retry"].as_object() {
            let mut policy = RetryPolicy::default();
            let millis = |key| retry.get(key).and_then(Value::as_u64).map(Duration::from_millis);
            let attempts = retry.get("max_attempts").and_then(Value::as_u64);
            policy.max_attempts = attempts.map_or(policy.max_attempts, |n| n as u32);
            policy.first_pause = millis("first_pause_ms").unwrap_or(policy.first_pause);
            policy.last_pause = millis("last_pause_ms").unwrap_or(policy.last_pause);
            builder = builder.retry(policy);
        }
        let client = builder.build()?;
        let name = args["as"].as_str().unwrap_or("c").to_string();
        self.clients.lock().unwrap().insert(name, client);
        Ok(json!({}))
    }
}

async fn models(client: &Client, op: &str, args: &Value) -> Outcome {
    let model = text(args, "model");
    match op {
        "create_model" => {
            let spec = spec_from(&args["spec"]).map_err(Failure::Spec)?;
            let mut call = client.create_model(spec);
            set!(call, id, args["model_id"].as_str());
            set!(call, request_id, args["request_id"].as_str());
            for (key, value) in args["labels"].as_object().into_iter().flatten() {
                call = call.label(key, value.as_str().unwrap_or_default());
            }
            let model = call.await?;
            let parameters = model.parameter_count;
            Ok(json!({"name": model.name, "step": model.step, "parameter_count": parameters}))
        }
        "get_model" => {
            let mut call = client.get_model(model);
            set!(call, timeout, timeout(args));
            let model = call.await?;
            let spec = model.spec.as_ref().map(spec_to);
            Ok(json!({"name": model.name, "step": model.step, "spec": spec}))
        }
        "list_models" => {
            let mut call = client.list_models();
            set!(call, page_size, args["page_size"].as_i64().map(|size| size as i32));
            for (key, value) in args["labels"].as_object().into_iter().flatten() {
                call = call.label(key, value.as_str().unwrap_or_default());
            }
            let names = call.all().await?.into_iter().map(|model| model.name);
            Ok(json!({"names": names.collect::<Vec<_>>()}))
        }
        _ => {
            client.delete_model(model).await?;
            Ok(json!({}))
        }
    }
}

fn data_from(args: &Value) -> Data {
    match args["dataset"].as_str() {
        Some(name) => Data::dataset(name),
        None => batch_from(args).into(),
    }
}

/// Receives the events of a run, and leaves the loop after so many if there is a limit.
async fn follow(mut run: Run, events: &Events, limit: Option<u64>) -> Outcome {
    let mut sequences = Vec::new();
    let mut summary = json!({});
    while let Some(event) = run.next().await {
        let event = event?;
        sequences.push(event.sequence);
        let value = event_to(&event);
        if event.summary().is_some() {
            summary = value.clone();
        }
        events.send(value);
        if limit.is_some_and(|limit| sequences.len() as u64 >= limit) {
            break;
        }
    }
    let mut result = json!({"sequences": sequences});
    for key in ["stop_reason", "iterations", "step", "loss"] {
        if let Some(value) = summary.get(key) {
            result[key] = value.clone();
        }
    }
    Ok(result)
}

fn event_to(event: &TrainingEvent) -> Value {
    let mut value = json!({"run": event.run, "sequence": event.sequence, "dropped": event.dropped});
    let mut add = |fields: Value| {
        for (key, field) in fields.as_object().into_iter().flatten() {
            value[key] = field.clone();
        }
    };
    if event.started().is_some() {
        add(json!({"kind": "started"}));
    } else if let Some(progress) = event.progress() {
        let (iteration, step) = (progress.iteration, progress.step);
        add(json!({
            "kind": "progress", "iteration": iteration, "step": step, "loss": progress.loss(),
        }));
    } else if let Some(summary) = event.summary() {
        let reason = summary.stop_reason().as_str_name().trim_start_matches("STOP_REASON_");
        add(json!({
            "kind": "summary", "stop_reason": reason, "iterations": summary.iterations,
            "step": summary.step, "message": summary.message,
        }));
        if summary.metrics.is_some() {
            add(json!({"loss": summary.loss()}));
        }
    }
    value
}

async fn train(client: &Client, args: &Value, events: &Events) -> Outcome {
    let mut train = client.train(text(args, "model"), data_from(args));
    set!(train, iterations, args["iterations"].as_i64());
    set!(train, epochs, args["epochs"].as_i64());
    set!(train, batch_size, args["batch_size"].as_i64().map(|rows| rows as i32));
    set!(train, report_every, args["report_every"].as_i64());
    set!(train, request_id, args["request_id"].as_str());
    set!(train, timeout, timeout(args));
    if args["detach"] == true {
        train = train.detach();
    }
    follow(train.start(), events, args["cancel_after_events"].as_u64()).await
}

async fn watch(client: &Client, args: &Value, events: &Events) -> Outcome {
    let mut watch = client.watch(text(args, "model"));
    set!(watch, run_name, args["run"].as_str());
    set!(watch, from_sequence, args["from_sequence"].as_i64());
    set!(watch, timeout, timeout(args));
    follow(watch.start(), events, args["cancel_after_events"].as_u64()).await
}

async fn steps(client: &Client, args: &Value) -> Outcome {
    let batches: Vec<Batch> = items(&args["batches"]).map(batch_from).collect();
    let mut results = client.steps(text(args, "model"), stream::iter(batches));
    set!(results, in_flight, args["in_flight"].as_u64().map(|n| n as usize));
    let (mut steps, mut losses) = (Vec::new(), Vec::new());
    while let Some(result) = results.next().await {
        let result = result?;
        steps.push(result.step);
        losses.push(result.loss());
    }
    Ok(json!({"steps": steps, "losses": losses}))
}

async fn predict(client: &Client, args: &Value) -> Outcome {
    let mut call = client.predict(text(args, "model"), tensor_from(&args["inputs"]));
    set!(call, timeout, timeout(args));
    let prediction = call.await?;
    let mut result = json!({"step": prediction.step});
    let path = |name: &str| args["to_file"].as_str().map(|path| format!("{path}.{name}"));
    for (name, tensor) in
        [("probabilities", &prediction.probabilities), ("logits", &prediction.logits)]
    {
        if let Some(tensor) = tensor {
            result[name] = tensor_to(tensor, path(name));
        }
    }
    if !prediction.classes.is_empty() {
        result["classes"] = prediction.classes.into();
    }
    Ok(result)
}

async fn checkpoints(client: &Client, op: &str, args: &Value) -> Outcome {
    let (model, checkpoint) = (text(args, "model"), text(args, "checkpoint"));
    match op {
        "create_checkpoint" => {
            let created = client.create_checkpoint(model, checkpoint).await?;
            Ok(json!({"name": created.name}))
        }
        "restore_checkpoint" => {
            Ok(json!({"step": client.restore_checkpoint(model, checkpoint).await?}))
        }
        "delete_checkpoint" => {
            client.delete_checkpoint(model, checkpoint).await?;
            Ok(json!({}))
        }
        _ => {
            let all = client.list_checkpoints(model).all().await?;
            let names: Vec<_> = all.into_iter().map(|checkpoint| checkpoint.name).collect();
            Ok(json!({"names": names}))
        }
    }
}

async fn datasets(client: &Client, op: &str, args: &Value, events: &Events) -> Outcome {
    let dataset = text(args, "dataset");
    match op {
        "upload_dataset" => {
            let mut upload = client
                .upload_dataset(dataset, batch_from(args))
                .on_progress(|rows| events.send(json!({"rows": rows})));
            set!(upload, chunk_rows, args["chunk_rows"].as_u64().map(|rows| rows as usize));
            set!(upload, request_id, args["request_id"].as_str());
            set!(upload, timeout, timeout(args));
            let uploaded = upload.await?;
            Ok(json!({"name": uploaded.name, "rows": uploaded.rows}))
        }
        "get_dataset" => {
            let found = client.get_dataset(dataset).await?;
            let ready = found.state() == DatasetState::Ready;
            Ok(json!({"name": found.name, "rows": found.rows, "ready": ready}))
        }
        "list_datasets" => {
            let all = client.list_datasets().all().await?;
            Ok(json!({"names": all.into_iter().map(|dataset| dataset.name).collect::<Vec<_>>()}))
        }
        _ => {
            client.delete_dataset(dataset).await?;
            Ok(json!({}))
        }
    }
}
