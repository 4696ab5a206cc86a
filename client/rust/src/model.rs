//! Short ways to write a model's definition.

use crate::v1::{
    Activation, Adagrad, Adam, AdamW, BinaryCrossEntropy, CosineSchedule, DataType,
    ExponentialSchedule, Huber, Initializer, InputStandardization, Layer, Loss, MeanAbsoluteError,
    MeanSquaredError, Metrics, ModelSpec, Optimizer, Progress, ReduceOnPlateauSchedule, RmsProp,
    RunStarted, Schedule, Sgd, SoftmaxCrossEntropy, StepResponse, StepSchedule, TrainingEvent,
    TrainingSummary, loss, optimizer, schedule, training_event,
};

/// # Building a model
///
/// Fields that are not set have the defaults of the contract.
///
/// ```
/// use backprop_client::v1::{Activation, Adam, Layer, ModelSpec};
///
/// let spec = ModelSpec::new(2)
///     .with_layer(Layer::new(16).with_activation(Activation::Tanh))
///     .with_layer(Layer::new(2))
///     .with_optimizer(Adam::new(0.01))
///     .with_seed(1);
/// ```
impl ModelSpec {
    /// A model of rows with `input_size` features, without layers.
    pub fn new(input_size: i32) -> ModelSpec {
        ModelSpec { input_size, ..Default::default() }
    }

    /// Adds a layer behind the others.
    pub fn with_layer(mut self, layer: Layer) -> ModelSpec {
        self.layers.push(layer);
        self
    }

    /// Sets the loss: one of the losses of [`v1`](crate::v1).
    pub fn with_loss(mut self, loss: impl Into<Loss>) -> ModelSpec {
        self.loss = Some(loss.into());
        self
    }

    /// Sets the optimiser: one of the optimisers of [`v1`](crate::v1), or an [`Optimizer`].
    pub fn with_optimizer(mut self, optimizer: impl Into<Optimizer>) -> ModelSpec {
        self.optimizer = Some(optimizer.into());
        self
    }

    /// Sets the seed of all random numbers of the model.
    pub fn with_seed(mut self, seed: u64) -> ModelSpec {
        self.seed = seed;
        self
    }

    /// Sets the precision: [`DataType::Float32`] or [`DataType::Float64`].
    pub fn with_data_type(mut self, data_type: DataType) -> ModelSpec {
        self.data_type = data_type as i32;
        self
    }

    /// Sets the names of the classes.
    pub fn with_class_names<S: Into<String>>(
        mut self,
        names: impl IntoIterator<Item = S>,
    ) -> ModelSpec {
        self.class_names = names.into_iter().map(Into::into).collect();
        self
    }

    /// Sets the names of the features.
    pub fn with_feature_names<S: Into<String>>(
        mut self,
        names: impl IntoIterator<Item = S>,
    ) -> ModelSpec {
        self.feature_names = names.into_iter().map(Into::into).collect();
        self
    }

    /// Standardises inputs by the mean and deviation of the first run's rows.
    pub fn with_standardized_inputs(mut self) -> ModelSpec {
        self.input_standardization = Some(InputStandardization::default());
        self
    }
}

impl Layer {
    /// A layer with `units` outputs.
    pub fn new(units: i32) -> Layer {
        Layer { units, ..Default::default() }
    }

    /// Sets the function that is applied to each output.
    pub fn with_activation(mut self, activation: Activation) -> Layer {
        self.activation = activation as i32;
        self
    }

    /// Sets the distribution of the initial weights.
    pub fn with_initializer(mut self, initializer: Initializer) -> Layer {
        self.initializer = initializer as i32;
        self
    }

    /// Sets the fraction of outputs that a training step sets to 0.
    pub fn with_dropout(mut self, dropout: f64) -> Layer {
        self.dropout = Some(dropout);
        self
    }
}

macro_rules! kinds {
    ($($type:ident => $whole:ident, $module:ident::$kind:ident;)*) => {$(
        impl From<$type> for $whole {
            fn from(kind: $type) -> $whole {
                $whole { kind: Some($module::Kind::$kind(kind)), ..Default::default() }
            }
        }
    )*};
}
// A message that has the kind only cannot be made with `..Default::default()` without a warning.
macro_rules! losses {
    ($($type:ident;)*) => {$(
        impl From<$type> for Loss {
            fn from(kind: $type) -> Loss {
                Loss { kind: Some(loss::Kind::$type(kind)) }
            }
        }
    )*};
}
losses! { SoftmaxCrossEntropy; BinaryCrossEntropy; MeanSquaredError; MeanAbsoluteError; Huber; }
kinds! {
    Sgd => Optimizer, optimizer::Sgd;
    Adam => Optimizer, optimizer::Adam;
    AdamW => Optimizer, optimizer::Adamw;
    RmsProp => Optimizer, optimizer::Rmsprop;
    Adagrad => Optimizer, optimizer::Adagrad;
    StepSchedule => Schedule, schedule::Step;
    ExponentialSchedule => Schedule, schedule::Exponential;
    CosineSchedule => Schedule, schedule::Cosine;
    ReduceOnPlateauSchedule => Schedule, schedule::ReduceOnPlateau;
}

macro_rules! optimizers {
    ($($type:ident),*) => {$(
        impl $type {
            /// With this learning rate, and defaults for all else.
            pub fn new(learning_rate: f64) -> $type {
                $type { learning_rate: Some(learning_rate), ..Default::default() }
            }
        }
    )*};
}
optimizers!(Sgd, Adam, AdamW, RmsProp, Adagrad);

impl Sgd {
    /// Sets the momentum.
    pub fn with_momentum(mut self, momentum: f64) -> Sgd {
        self.momentum = Some(momentum);
        self
    }
}

impl Optimizer {
    /// Sets how the learning rate changes.
    pub fn with_schedule(mut self, schedule: impl Into<Schedule>) -> Optimizer {
        self.schedule = Some(schedule.into());
        self
    }

    /// Scales gradients whose Euclidean norm is larger.
    pub fn with_clip_norm(mut self, norm: f64) -> Optimizer {
        self.clipping = Some(optimizer::Clipping::ClipNorm(norm));
        self
    }

    /// Clamps the entries of gradients.
    pub fn with_clip_value(mut self, value: f64) -> Optimizer {
        self.clipping = Some(optimizer::Clipping::ClipValue(value));
        self
    }
}

impl Schedule {
    /// Lets the learning rate grow linearly in the first steps.
    pub fn with_warmup(mut self, steps: i64) -> Schedule {
        self.warmup_steps = steps;
        self
    }
}

impl TrainingEvent {
    /// The start of the run, if the event is that.
    pub fn started(&self) -> Option<&RunStarted> {
        match &self.event {
            Some(training_event::Event::Started(started)) => Some(started),
            _ => None,
        }
    }

    /// The progress of the run, if the event is that.
    pub fn progress(&self) -> Option<&Progress> {
        match &self.event {
            Some(training_event::Event::Progress(progress)) => Some(progress),
            _ => None,
        }
    }

    /// The end of the run, if the event is that.
    pub fn summary(&self) -> Option<&TrainingSummary> {
        match &self.event {
            Some(training_event::Event::Summary(summary)) => Some(summary),
            _ => None,
        }
    }
}

fn loss_of(metrics: &Option<Metrics>) -> f64 {
    metrics.as_ref().map_or(f64::NAN, |metrics| metrics.loss)
}

fn accuracy_of(metrics: &Option<Metrics>) -> Option<f64> {
    metrics.as_ref().and_then(|metrics| metrics.accuracy)
}

macro_rules! metrics {
    ($($type:ident),*) => {$(
        impl $type {
            /// The loss of `metrics`; NaN if there are none.
            pub fn loss(&self) -> f64 {
                loss_of(&self.metrics)
            }

            /// The accuracy of `metrics`; none for regression.
            pub fn accuracy(&self) -> Option<f64> {
                accuracy_of(&self.metrics)
            }
        }
    )*};
}
metrics!(Progress, StepResponse, TrainingSummary);
