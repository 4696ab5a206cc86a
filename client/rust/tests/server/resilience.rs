//! What survives a server that is killed, and a connection that breaks.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use backprop_client::v1::{Batch, DatasetState, StopReason, Tensor};
use backprop_client::{Client, Code, RetryPolicy, StepInput};
use futures_util::{StreamExt, TryStreamExt, stream};

use crate::support::{Link, Server, patient, slow, small, weights, xor};

#[tokio::test]
async fn attempts_end() {
    let mut server = Server::start().await;
    let retry = RetryPolicy { max_attempts: 3, ..Default::default() };
    let client = Client::builder(&server.address).retry(retry).build().unwrap();
    assert!(client.health().await.unwrap());
    server.kill().await;
    assert_eq!(client.get_model("a").await.unwrap_err().code(), Code::Unavailable);
}

#[tokio::test]
async fn a_step_waits_for_the_server_and_is_made_once() {
    let mut server = Server::start().await;
    let client = server.client();
    client.create_model(small()).id("a").await.unwrap();
    server.kill().await;
    let call = client.step("a", xor(20));
    let step = tokio::spawn(async move { call.await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!step.is_finished());
    server.restart().await;
    assert_eq!(step.await.unwrap().unwrap().step, 1);
    assert_eq!(client.get_model("a").await.unwrap().step, 1);
}

#[tokio::test]
async fn a_step_whose_response_is_lost_is_made_once() {
    let server = Server::start().await;
    let control = server.client();
    control.create_model(small()).id("a").await.unwrap();
    let link = Link::to(&server.address).await;
    let client = patient(&link.address);
    assert!(client.health().await.unwrap());
    link.hold_responses();
    let call = client.step("a", xor(20));
    let step = tokio::spawn(async move { call.await });
    while control.get_model("a").await.unwrap().step == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(!step.is_finished());
    link.cut();
    assert_eq!(step.await.unwrap().unwrap().step, 1);
    assert_eq!(control.get_model("a").await.unwrap().step, 1);
}

#[tokio::test]
async fn a_run_goes_on_after_kills() {
    let mut server = Server::start().await;
    let client = server.client();
    for id in ["a", "b"] {
        client.create_model(slow()).id(id).await.unwrap();
    }
    let train =
        |id: &str| client.train(id, xor(2000)).batch_size(500).iterations(400).report_every(5);
    let undisturbed = train("b").await.unwrap();
    let mut run = train("a").start();
    let mut sequences = Vec::new();
    let mut summary = None;
    let mut kills = 0;
    while let Some(event) = run.next().await {
        let event = event.unwrap();
        sequences.push(event.sequence);
        if event
            .progress()
            .is_some_and(|progress| progress.iteration >= 100 * (kills + 1) && kills < 2)
        {
            kills += 1;
            server.freeze();
            server.kill().await;
            server.restart().await;
        }
        summary = event.summary().cloned();
    }
    let summary = summary.unwrap();
    assert_eq!(kills, 2);
    assert_eq!((summary.stop_reason(), summary.step), (StopReason::Completed, 400));
    assert_eq!(summary.loss().to_bits(), undisturbed.loss().to_bits());
    assert!(sequences.is_sorted_by(|a, b| a < b), "{sequences:?}");
    assert_eq!(weights(&client, "a").await, weights(&client, "b").await);
}

#[tokio::test]
async fn a_watch_goes_on_by_sequence() {
    let mut server = Server::start().await;
    let client = server.client();
    client.create_model(slow()).id("a").await.unwrap();
    let mut run = client.train("a", xor(2000)).iterations(300).report_every(5).detach().start();
    run.next().await.unwrap().unwrap();
    drop(run);
    let mut watch = client.watch("a").start();
    let mut sequences = Vec::new();
    while let Some(event) = watch.next().await {
        let event = event.unwrap();
        sequences.push(event.sequence);
        if sequences.len() == 10 {
            server.freeze();
            server.kill().await;
            server.restart().await;
        }
    }
    assert_eq!(sequences[0], 1);
    assert!(sequences.is_sorted_by(|a, b| a < b), "{sequences:?}");
    assert_eq!(client.get_model("a").await.unwrap().step, 300);
}

#[tokio::test]
async fn progress_resets_the_count_of_attempts() {
    let server = Server::start().await;
    let control = server.client();
    control.create_model(slow()).id("a").await.unwrap();
    let link = Link::to(&server.address).await;
    let retry = RetryPolicy { max_attempts: 2, ..Default::default() };
    let client = Client::builder(&link.address).retry(retry).build().unwrap();
    let mut run = client.train("a", xor(2000)).iterations(300).report_every(5).detach().start();
    let (mut last, mut cuts) = (0, 0);
    while let Some(event) = run.next().await {
        let event = event.unwrap();
        assert!(event.sequence > last);
        last = event.sequence;
        if last % 10 == 0 && cuts < 4 {
            cuts += 1;
            link.cut();
        }
    }
    assert_eq!(cuts, 4);
}

#[tokio::test]
async fn a_connection_that_breaks_for_good_stops_the_run_and_says_so() {
    let server = Server::start().await;
    let control = server.client();
    control.create_model(slow()).id("a").await.unwrap();
    let link = Link::to(&server.address).await;
    let retry = RetryPolicy {
        first_pause: Duration::from_secs(2),
        last_pause: Duration::from_secs(2),
        ..Default::default()
    };
    let client = Client::builder(&link.address).retry(retry).build().unwrap();
    let mut run = client.train("a", xor(2000)).iterations(1_000_000).start();
    for _ in 0..3 {
        run.next().await.unwrap().unwrap();
    }
    link.cut();
    // The run is attached to again before or after the server noticed that its call broke.
    let end = tokio::time::timeout(Duration::from_secs(10), run.finish()).await;
    if let Ok(end) = end {
        let error = end.unwrap_err();
        assert_eq!(error.code(), Code::Unavailable, "{error}");
        assert_eq!(error.reason(), "CONNECTION_BROKE");
        assert!(error.metadata()["iterations"].parse::<i64>().unwrap() < 1_000_000);
    }
}

fn batches(count: usize) -> Vec<Batch> {
    let at = |i: usize, j: usize| ((i * 7 + j * 13) % 31) as f32 / 15.5 - 1.0;
    let batch = |i| {
        let rows: Vec<[f32; 2]> = (0..16).map(|j| [at(i, j), at(j, i)]).collect();
        let labels: Vec<i32> = rows.iter().map(|[x, y]| i32::from(x * y > 0.0)).collect();
        Batch::with_labels(rows, labels)
    };
    (0..count).map(batch).collect()
}

#[tokio::test]
async fn pipelined_steps_are_single_steps_in_order() {
    let server = Server::start().await;
    let client = server.client();
    for id in ["a", "b"] {
        client.create_model(small()).id(id).await.unwrap();
    }
    let steps = client.steps("a", stream::iter(batches(100)));
    let results: Vec<_> = steps.try_collect().await.unwrap();
    assert_eq!(results.iter().map(|r| r.step).collect::<Vec<_>>(), (1..=100).collect::<Vec<_>>());
    for (batch, result) in batches(100).into_iter().zip(&results) {
        let single = client.step("b", batch).await.unwrap();
        assert_eq!(single.loss().to_bits(), result.loss().to_bits());
    }
    assert_eq!(weights(&client, "a").await, weights(&client, "b").await);
}

#[tokio::test]
async fn rejected_steps_have_their_place() {
    let server = Server::start().await;
    let client = server.client();
    client.create_model(small()).id("a").await.unwrap();
    let inputs = [
        StepInput::new(xor(4)),
        StepInput::new(xor(4)).expected_step(7),
        StepInput::new(Batch::with_labels(Tensor::from_vec(&[2, 2], vec![1.0f32]), &[0, 1])),
        StepInput::new(xor(4)).expected_step(1),
    ];
    let results: Vec<_> = client.steps("a", stream::iter(inputs)).collect().await;
    assert_eq!(results.len(), 4);
    assert_eq!(results[0].as_ref().unwrap().step, 1);
    assert_eq!(results[1].as_ref().unwrap_err().current_step(), Some(1));
    assert_eq!(results[2].as_ref().unwrap_err().violations()[0].field, "step.batch.inputs.raw");
    assert_eq!(results[3].as_ref().unwrap().step, 2);
}

#[tokio::test]
async fn batches_are_taken_as_there_is_room() {
    let server = Server::start().await;
    let client = server.client();
    client.create_model(small()).id("a").await.unwrap();
    let taken = Arc::new(AtomicUsize::new(0));
    let counter = taken.clone();
    let source = stream::iter(batches(100)).inspect(move |_| {
        counter.fetch_add(1, Ordering::Relaxed);
    });
    let mut steps = client.steps("a", source).in_flight(5);
    for answered in 1..=100 {
        steps.next().await.unwrap().unwrap();
        let ahead = taken.load(Ordering::Relaxed) - answered;
        assert!(ahead < 5, "{ahead} steps without a result");
    }
    assert!(steps.next().await.is_none());
}

#[tokio::test]
async fn pipelined_steps_survive_kills_and_cuts() {
    let mut server = Server::start().await;
    let control = server.client();
    for id in ["a", "b"] {
        control.create_model(small()).id(id).await.unwrap();
    }
    let undisturbed = control.steps("b", stream::iter(batches(300)));
    let expected: Vec<_> = undisturbed.try_collect().await.unwrap();
    let link = Link::to(&server.address).await;
    let client = patient(&link.address);
    let mut steps = client.steps("a", stream::iter(batches(300)));
    let mut results = Vec::new();
    while let Some(result) = steps.next().await {
        results.push(result.unwrap());
        match results.len() {
            50 | 100 => {
                // The server makes the steps that it has, and their results are lost.
                link.hold_responses();
                tokio::time::sleep(Duration::from_millis(50)).await;
                link.cut();
            }
            150 | 250 => {
                server.kill().await;
                server.restart().await;
            }
            _ => {}
        }
    }
    assert_eq!(results, expected);
    assert_eq!(weights(&control, "a").await, weights(&control, "b").await);
}

#[tokio::test]
async fn an_upload_goes_on_with_the_first_missing_row() {
    let mut server = Server::start().await;
    let client = server.client();
    let rows = xor(1000);
    let asked = Arc::new(std::sync::Mutex::new(Vec::new()));
    let (source, requests) = (rows.clone(), asked.clone());
    let (stop, mut stopped) = tokio::sync::mpsc::unbounded_channel();
    let mut upload = Box::pin(async {
        let inputs = source.inputs.unwrap().to_vec::<f32>().unwrap();
        let labels = source.labels.unwrap().to_vec::<i32>().unwrap();
        client
            .upload_dataset_from("points", move |first| {
                requests.lock().unwrap().push(first);
                if first == 500 {
                    let _ = stop.send(());
                    std::thread::sleep(Duration::from_millis(50));
                }
                let end = (first + 100).min(1000);
                Ok((first < 1000).then(|| {
                    let inputs = Tensor::from_slice(&[end - first, 2], &inputs[2 * first..2 * end]);
                    Batch::with_labels(inputs, &labels[first..end])
                }))
            })
            .await
    });
    let mut killed = false;
    let dataset = loop {
        tokio::select! {
            dataset = &mut upload => break dataset.unwrap(),
            Some(()) = stopped.recv(), if !killed => {
                killed = true;
                server.kill().await;
                server.restart().await;
            }
        }
    };
    assert!(killed);
    assert_eq!((dataset.state(), dataset.rows), (DatasetState::Ready, 1000));
    let asked = asked.lock().unwrap();
    assert!(
        asked.windows(2).any(|pair| pair[1] <= pair[0]),
        "the upload was not resumed: {asked:?}"
    );
    // Nothing is lost and nothing is there twice: a model learns the same from it.
    for id in ["a", "b"] {
        client.create_model(small()).id(id).await.unwrap();
    }
    client.train("a", backprop_client::Data::dataset("points")).iterations(20).await.unwrap();
    client.train("b", rows).iterations(20).await.unwrap();
    assert_eq!(weights(&client, "a").await, weights(&client, "b").await);
}

#[tokio::test]
async fn an_import_is_repeated_only_from_a_source_that_can_be_read_again() {
    let server = Server::start().await;
    let control = server.client();
    control.create_model(small()).id("a").await.unwrap();
    let file = control.export_model("a").to_bytes().await.unwrap();
    for again in [true, false] {
        let link = Link::to(&server.address).await;
        let client = patient(&link.address);
        assert!(client.health().await.unwrap());
        let id = format!("copy-{again}");
        link.hold_responses();
        let import = match again {
            true => client.import_model(file.clone()),
            false => client.import_model(backprop_client::FileSource::reader(
                std::io::Cursor::new(file.clone()),
            )),
        };
        let import = import.id(&id);
        let import = tokio::spawn(async move { import.await });
        while control.get_model(&id).await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        link.cut();
        match import.await.unwrap() {
            Ok(model) => assert!(again && model.name == format!("models/{id}")),
            Err(error) => assert!(!again && error.code() == Code::Unavailable, "{error}"),
        }
    }
}
