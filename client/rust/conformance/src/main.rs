//! The conformance runner: executes requests in JSON with the public API of the client.

mod json;
mod operations;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::sync::{mpsc, oneshot};

use operations::{Failure, Operations};

/// Writes the events of a request.
#[derive(Clone)]
pub struct Events {
    id: Value,
    lines: mpsc::UnboundedSender<String>,
}

impl Events {
    pub fn send(&self, event: Value) {
        let _ = self.lines.send(json!({"id": self.id, "event": event}).to_string());
    }
}

type Cancels = Arc<Mutex<HashMap<String, oneshot::Sender<()>>>>;

async fn answer(operations: Operations, request: Value, cancels: Cancels, events: Events) {
    let id = request["id"].clone();
    let (cancel, cancelled) = oneshot::channel::<()>();
    cancels.lock().unwrap().insert(id.to_string(), cancel);
    let op = request["op"].as_str().unwrap_or_default();
    // A caller of this client cancels a call by dropping its future.
    let outcome = tokio::select! {
        outcome = operations.execute(op, &request["args"], &events) => outcome,
        Ok(()) = cancelled => Err(Failure::Cancelled),
    };
    cancels.lock().unwrap().remove(&id.to_string());
    let mut reply = json!({"id": id});
    match outcome {
        Ok(result) => reply["result"] = result,
        Err(Failure::Unsupported) => reply["unsupported"] = true.into(),
        Err(Failure::Cancelled) => {
            reply["error"] = json!({"code": "CANCELLED", "message": "cancelled by the caller"});
        }
        Err(Failure::Error(error)) => {
            let violations = error.violations().iter().map(
                |violation| json!({"field": violation.field, "description": violation.description}),
            );
            reply["error"] = json!({
                "code": error.code().name(),
                "message": error.message(),
                "violations": violations.collect::<Vec<_>>(),
                "reason": error.reason(),
                "metadata": error.metadata(),
            });
        }
        Err(Failure::Spec(message)) => {
            reply["error"] = json!({"code": "INVALID_ARGUMENT", "message": message});
        }
    }
    let _ = events.lines.send(reply.to_string());
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let (lines, mut to_write) = mpsc::unbounded_channel::<String>();
    let writer = tokio::spawn(async move {
        let mut stdout = tokio::io::stdout();
        while let Some(line) = to_write.recv().await {
            stdout.write_all(format!("{line}\n").as_bytes()).await?;
            stdout.flush().await?;
        }
        std::io::Result::Ok(())
    });
    let operations = Operations::default();
    let cancels = Cancels::default();
    let mut requests = BufReader::new(tokio::io::stdin()).lines();
    while let Some(line) = requests.next_line().await? {
        let request: Value = serde_json::from_str(&line)?;
        let events = Events { id: request["id"].clone(), lines: lines.clone() };
        if request["op"] == "cancel" {
            let target = request["args"]["target"].to_string();
            if let Some(cancel) = cancels.lock().unwrap().remove(&target) {
                let _ = cancel.send(());
            }
            let _ = lines.send(json!({"id": request["id"], "result": {}}).to_string());
            continue;
        }
        let run_async = request["async"] == true;
        let work = answer(operations.clone(), request, cancels.clone(), events);
        if run_async {
            tokio::spawn(work);
        } else {
            work.await;
        }
    }
    // Requests in the background end with the program.
    drop(lines);
    drop(operations);
    for (_, cancel) in cancels.lock().unwrap().drain() {
        let _ = cancel.send(());
    }
    writer.await?
}
