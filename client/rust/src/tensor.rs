//! Tensors and batches from slices, vectors and arrays.

use std::borrow::Cow;

use bytes::Bytes;

use crate::error::{Error, Result};
use crate::v1::{Batch, ByteOrder, DataType, NamedTensor, Tensor};

mod sealed {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for f64 {}
    impl Sealed for i32 {}
    impl Sealed for i64 {}
}

/// A number of a tensor: `f32` or `f64`; for class indices `i32` or `i64`.
pub trait Element: bytemuck::Pod + Send + Sync + sealed::Sealed {
    /// Its name in the contract.
    const DATA_TYPE: DataType;
    #[doc(hidden)]
    fn from_f64(number: f64) -> Self;
    #[doc(hidden)]
    fn to_f64(self) -> f64;
    #[doc(hidden)]
    fn swapped(self) -> Self;
}

macro_rules! element {
    ($type:ty, $data_type:ident) => {
        impl Element for $type {
            const DATA_TYPE: DataType = DataType::$data_type;
            fn from_f64(number: f64) -> $type {
                number as $type
            }
            fn to_f64(self) -> f64 {
                self as f64
            }
            fn swapped(self) -> $type {
                let mut bytes = self.to_ne_bytes();
                bytes.reverse();
                <$type>::from_ne_bytes(bytes)
            }
        }
    };
}
element!(f32, Float32);
element!(f64, Float64);
element!(i32, Int32);
element!(i64, Int64);

/// Lets [`Bytes`] own a vector of numbers.
struct Owned<T>(Vec<T>);

impl<T: Element> AsRef<[u8]> for Owned<T> {
    fn as_ref(&self) -> &[u8] {
        bytemuck::cast_slice(&self.0)
    }
}

fn native_order() -> i32 {
    let native =
        if cfg!(target_endian = "little") { ByteOrder::LittleEndian } else { ByteOrder::BigEndian };
    native as i32
}

fn dimensions(shape: &[usize]) -> Vec<i32> {
    // The server rejects a dimension that does not fit; the client has no tensor of that size.
    shape.iter().map(|&n| i32::try_from(n).unwrap_or(i32::MAX)).collect()
}

/// # Tensors
///
/// A tensor holds the numbers as raw bytes in the order of this machine, and says which order that
/// is. [`Tensor::from_vec`] takes the vector without a copy, the others copy its memory once; no
/// number is converted. The shape is compared with the number of elements when a call is made: a
/// mismatch is `INVALID_ARGUMENT` before anything is sent.
///
/// ```
/// use backprop_client::v1::Tensor;
///
/// let rows = Tensor::from(&[[0.7f32, 0.7], [-0.7, 0.7]]); // shape [2, 2]
/// let same = Tensor::from_vec(&[2, 2], vec![0.7f32, 0.7, -0.7, 0.7]);
/// assert_eq!(rows, same);
/// assert_eq!(rows.to_vec::<f32>()?, [0.7, 0.7, -0.7, 0.7]);
/// # Ok::<(), backprop_client::Error>(())
/// ```
impl Tensor {
    /// Takes the numbers of a tensor in row-major order. Copies none.
    pub fn from_vec<T: Element>(shape: &[usize], numbers: Vec<T>) -> Tensor {
        Tensor::from_raw::<T>(shape, Bytes::from_owner(Owned(numbers)))
    }

    /// Copies the numbers of a tensor in row-major order.
    pub fn from_slice<T: Element>(shape: &[usize], numbers: &[T]) -> Tensor {
        Tensor::from_raw::<T>(shape, Bytes::copy_from_slice(bytemuck::cast_slice(numbers)))
    }

    fn from_raw<T: Element>(shape: &[usize], raw: Bytes) -> Tensor {
        Tensor {
            shape: dimensions(shape),
            values: Vec::new(),
            raw,
            data_type: T::DATA_TYPE as i32,
            byte_order: native_order(),
        }
    }

    /// Number of rows: the first dimension.
    pub fn rows(&self) -> usize {
        self.shape.first().map_or(0, |&n| n.max(0) as usize)
    }

    /// Number of elements of a row: the product of the other dimensions.
    pub fn cols(&self) -> usize {
        self.shape.iter().skip(1).map(|&n| n.max(0) as usize).product()
    }

    /// The numbers, in row-major order. Borrows them if they are stored as `T` in the order of this
    /// machine and aligned, as in every response on a little-endian machine as a rule; else copies.
    ///
    /// # Errors
    ///
    /// `INVALID_ARGUMENT` if the elements are of another type than `T`.
    pub fn as_slice<T: Element>(&self) -> Result<Cow<'_, [T]>> {
        if !self.values.is_empty() {
            return Ok(self.values.iter().map(|&number| T::from_f64(number)).collect());
        }
        if self.data_type != T::DATA_TYPE as i32 {
            return Err(Error::field(
                "data_type",
                format!(
                    "expected {}, got {}",
                    T::DATA_TYPE.as_str_name(),
                    self.data_type().as_str_name()
                ),
            ));
        }
        let size = size_of::<T>();
        if self.raw.len() % size != 0 {
            return Err(Error::field(
                "raw",
                format!(
                    "must be a whole number of elements of {size} bytes, got {} bytes",
                    self.raw.len()
                ),
            ));
        }
        let order = match self.byte_order() {
            ByteOrder::Unspecified => ByteOrder::LittleEndian as i32,
            given => given as i32,
        };
        if order != native_order() {
            let swap = |bytes| bytemuck::pod_read_unaligned::<T>(bytes).swapped();
            return Ok(self.raw.chunks_exact(size).map(swap).collect());
        }
        Ok(match bytemuck::try_cast_slice(&self.raw[..]) {
            Ok(numbers) => Cow::Borrowed(numbers),
            Err(_) => self.raw.chunks_exact(size).map(bytemuck::pod_read_unaligned::<T>).collect(),
        })
    }

    /// The numbers, in row-major order.
    ///
    /// # Errors
    ///
    /// `INVALID_ARGUMENT` if the elements are of another type than `T`.
    pub fn to_vec<T: Element>(&self) -> Result<Vec<T>> {
        self.as_slice().map(Cow::into_owned)
    }

    /// The numbers as `f64`, whatever their type is. Exact for all types but large `i64`.
    ///
    /// # Errors
    ///
    /// `INVALID_ARGUMENT` if the tensor has no type, or bytes of half an element.
    pub fn to_f64s(&self) -> Result<Vec<f64>> {
        fn wide<T: Element>(tensor: &Tensor) -> Result<Vec<f64>> {
            Ok(tensor.as_slice::<T>()?.iter().map(|&number| number.to_f64()).collect())
        }
        match self.data_type() {
            DataType::Float32 => wide::<f32>(self),
            DataType::Int32 => wide::<i32>(self),
            DataType::Int64 => wide::<i64>(self),
            DataType::Float64 | DataType::Unspecified => wide::<f64>(self),
        }
    }

    /// Rows `first..first + count`, which must exist. Raw numbers are shared, not copied.
    pub(crate) fn slice(&self, first: usize, count: usize) -> Tensor {
        let size = self.cols();
        let mut part = Tensor { values: Vec::new(), raw: Bytes::new(), ..self.clone() };
        if let Some(rows) = part.shape.first_mut() {
            *rows = count as i32;
        }
        if self.values.is_empty() {
            let size = size * self.element_size();
            part.raw = self.raw.slice(first * size..(first + count) * size);
        } else {
            part.values = self.values[first * size..(first + count) * size].to_vec();
        }
        part
    }

    fn element_size(&self) -> usize {
        match self.data_type() {
            DataType::Float32 | DataType::Int32 => 4,
            _ => 8,
        }
    }

    /// The little-endian bytes of the numbers as a server stores them in type `T`.
    pub(crate) fn stored_as<T: Element>(&self) -> Result<Cow<'_, [u8]>> {
        let little = matches!(self.byte_order(), ByteOrder::Unspecified | ByteOrder::LittleEndian);
        if little && self.values.is_empty() && self.data_type == T::DATA_TYPE as i32 {
            return Ok(Cow::Borrowed(&self.raw));
        }
        let little = |number| match cfg!(target_endian = "little") {
            true => T::from_f64(number),
            false => T::from_f64(number).swapped(),
        };
        let numbers: Vec<T> = self.to_f64s()?.into_iter().map(little).collect();
        Ok(Cow::Owned(bytemuck::cast_slice(&numbers).to_vec()))
    }

    /// Compares the shape with the number of elements. `field` is the path of the tensor.
    pub(crate) fn check(&self, field: &str) -> Result<()> {
        if self.shape.is_empty() {
            return Ok(());
        }
        let elements = self
            .shape
            .iter()
            .try_fold(1usize, |product, &n| product.checked_mul(usize::try_from(n).unwrap_or(0)));
        let shape = &self.shape;
        if self.values.is_empty() {
            let expected = elements.and_then(|n| n.checked_mul(self.element_size()));
            if expected != Some(self.raw.len()) {
                let expected = expected.map_or("more".into(), |n| n.to_string());
                let data_type = self.data_type().as_str_name().trim_start_matches("DATA_TYPE_");
                return Err(Error::field(
                    format!("{field}.raw"),
                    format!(
                        "expected {expected} bytes for shape {shape:?} of {data_type}, got {}",
                        self.raw.len()
                    ),
                ));
            }
        } else if elements != Some(self.values.len()) {
            let expected = elements.map_or("more".into(), |n| n.to_string());
            return Err(Error::field(
                format!("{field}.values"),
                format!(
                    "expected {expected} values for shape {shape:?}, got {}",
                    self.values.len()
                ),
            ));
        }
        Ok(())
    }
}

/// A matrix of rows of `D` numbers.
impl<T: Element, const D: usize> From<&[[T; D]]> for Tensor {
    fn from(rows: &[[T; D]]) -> Tensor {
        Tensor::from_slice(&[rows.len(), D], rows.as_flattened())
    }
}

/// A matrix of `N` rows of `D` numbers.
impl<T: Element, const D: usize, const N: usize> From<&[[T; D]; N]> for Tensor {
    fn from(rows: &[[T; D]; N]) -> Tensor {
        Tensor::from(&rows[..])
    }
}

/// A matrix of rows of `D` numbers.
impl<T: Element, const D: usize> From<&Vec<[T; D]>> for Tensor {
    fn from(rows: &Vec<[T; D]>) -> Tensor {
        Tensor::from(&rows[..])
    }
}

/// A matrix of rows of `D` numbers, without a copy.
impl<T: Element, const D: usize> From<Vec<[T; D]>> for Tensor {
    fn from(rows: Vec<[T; D]>) -> Tensor {
        Tensor::from_vec(&[rows.len(), D], rows.into_flattened())
    }
}

/// A vector.
impl<T: Element> From<&[T]> for Tensor {
    fn from(numbers: &[T]) -> Tensor {
        Tensor::from_slice(&[numbers.len()], numbers)
    }
}

/// A vector.
impl<T: Element, const N: usize> From<&[T; N]> for Tensor {
    fn from(numbers: &[T; N]) -> Tensor {
        Tensor::from(&numbers[..])
    }
}

/// A vector.
impl<T: Element> From<&Vec<T>> for Tensor {
    fn from(numbers: &Vec<T>) -> Tensor {
        Tensor::from(&numbers[..])
    }
}

/// A vector, without a copy.
impl<T: Element> From<Vec<T>> for Tensor {
    fn from(numbers: Vec<T>) -> Tensor {
        Tensor::from_vec(&[numbers.len()], numbers)
    }
}

/// # Batches
///
/// ```
/// use backprop_client::v1::Batch;
///
/// let inputs = [[0.0f32, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]];
/// let batch = Batch::with_labels(&inputs, &[0, 1, 1, 0]);
/// assert_eq!(batch.rows(), 4);
/// ```
impl Batch {
    /// Rows with class indices, of type `i32` or `i64`.
    pub fn with_labels(inputs: impl Into<Tensor>, labels: impl Into<Tensor>) -> Batch {
        Batch { inputs: Some(inputs.into()), labels: Some(labels.into()), ..Default::default() }
    }

    /// Rows with class names.
    pub fn with_label_names<S: Into<String>>(
        inputs: impl Into<Tensor>,
        names: impl IntoIterator<Item = S>,
    ) -> Batch {
        Batch {
            inputs: Some(inputs.into()),
            label_names: names.into_iter().map(Into::into).collect(),
            ..Default::default()
        }
    }

    /// Rows with targets, of shape [n, k].
    pub fn with_targets(inputs: impl Into<Tensor>, targets: impl Into<Tensor>) -> Batch {
        Batch { inputs: Some(inputs.into()), targets: Some(targets.into()), ..Default::default() }
    }

    /// Sets the weight of each row.
    pub fn weighted(mut self, sample_weights: impl Into<Tensor>) -> Batch {
        self.sample_weights = Some(sample_weights.into());
        self
    }

    /// Number of rows: the first dimension of the inputs.
    pub fn rows(&self) -> usize {
        self.inputs.as_ref().map_or(0, Tensor::rows)
    }

    fn tensors(&self) -> [(&'static str, Option<&Tensor>); 4] {
        [
            ("inputs", self.inputs.as_ref()),
            ("labels", self.labels.as_ref()),
            ("targets", self.targets.as_ref()),
            ("sample_weights", self.sample_weights.as_ref()),
        ]
    }

    /// Compares shapes with numbers of elements. `field` is the path of the batch.
    pub(crate) fn check(&self, field: &str) -> Result<()> {
        for (name, tensor) in self.tensors() {
            if let Some(tensor) = tensor {
                tensor.check(&format!("{field}.{name}"))?;
            }
        }
        Ok(())
    }

    /// Whether every part has as many rows as the inputs, so that rows can be cut out.
    pub(crate) fn check_rows(&self, field: &str) -> Result<()> {
        self.check(field)?;
        let rows = self.rows();
        let unequal = |name: &str, got: usize| {
            Err(Error::field(
                format!("{field}.{name}"),
                format!("expected {rows} rows, as inputs has, got {got}"),
            ))
        };
        for (name, tensor) in self.tensors() {
            match tensor {
                Some(tensor) if tensor.rows() != rows => return unequal(name, tensor.rows()),
                _ => {}
            }
        }
        match self.label_names.len() {
            0 => Ok(()),
            names if names == rows => Ok(()),
            names => unequal("label_names", names),
        }
    }

    /// Rows `first..first + count` of a batch that passed [`Batch::check_rows`].
    pub(crate) fn slice(&self, first: usize, count: usize) -> Batch {
        let part = |tensor: &Option<Tensor>| tensor.as_ref().map(|t| t.slice(first, count));
        Batch {
            inputs: part(&self.inputs),
            labels: part(&self.labels),
            label_names: match self.label_names.is_empty() {
                true => Vec::new(),
                false => self.label_names[first..first + count].to_vec(),
            },
            targets: part(&self.targets),
            sample_weights: part(&self.sample_weights),
        }
    }

    /// Size of a row in bytes, rounded up.
    pub(crate) fn row_bytes(&self) -> usize {
        let numbers: usize = self.tensors().iter().flat_map(|(_, t)| t).map(|t| t.cols()).sum();
        let names: usize = self.label_names.iter().map(String::len).sum();
        8 * numbers + names.div_ceil(self.rows().max(1)) + 8
    }

    /// CRC-32 of the rows as a dataset of type `T` stores them. None for class names, whose indices
    /// the server assigns.
    pub(crate) fn stored_crc32(&self, data_type: DataType) -> Result<Option<u32>> {
        if !self.label_names.is_empty() {
            return Ok(None);
        }
        let mut crc = crc32fast::Hasher::new();
        for (name, tensor) in self.tensors() {
            let Some(tensor) = tensor else { continue };
            crc.update(&match (name, data_type) {
                ("labels", _) => tensor.stored_as::<i32>()?,
                (_, DataType::Float64) => tensor.stored_as::<f64>()?,
                _ => tensor.stored_as::<f32>()?,
            });
        }
        Ok(Some(crc.finalize()))
    }
}

/// A tensor and its name, such as `layers[0].weights`.
impl<S: Into<String>, T: Into<Tensor>> From<(S, T)> for NamedTensor {
    fn from((name, tensor): (S, T)) -> NamedTensor {
        NamedTensor { name: name.into(), tensor: Some(tensor.into()) }
    }
}

/// Compares shapes with numbers of elements. `field` is the path of the list.
pub(crate) fn check_named(tensors: &[NamedTensor], field: &str) -> Result<()> {
    for (i, named) in tensors.iter().enumerate() {
        if let Some(tensor) = &named.tensor {
            tensor.check(&format!("{field}[{i}].tensor"))?;
        }
    }
    Ok(())
}

#[cfg(feature = "ndarray")]
mod arrays {
    use super::{Element, Error, Result, Tensor};
    use ndarray::{Array, Array2, ArrayBase, ArrayD, Data, Dimension, Ix2};

    /// An array of any layout; with feature `ndarray`. An array in standard layout is copied as one
    /// piece of memory.
    impl<T: Element, S: Data<Elem = T>, D: Dimension> From<&ArrayBase<S, D>> for Tensor {
        fn from(array: &ArrayBase<S, D>) -> Tensor {
            match array.as_slice() {
                Some(numbers) => Tensor::from_slice(array.shape(), numbers),
                None => Tensor::from_vec(array.shape(), array.iter().copied().collect()),
            }
        }
    }

    /// An array of any layout; with feature `ndarray`. An array in standard layout is not copied.
    impl<T: Element, D: Dimension> From<Array<T, D>> for Tensor {
        fn from(array: Array<T, D>) -> Tensor {
            if !array.is_standard_layout() {
                return Tensor::from(&array);
            }
            let (shape, len) = (array.shape().to_vec(), array.len());
            let (mut numbers, offset) = array.into_raw_vec_and_offset();
            numbers.drain(..offset.unwrap_or(0));
            numbers.truncate(len);
            Tensor::from_vec(&shape, numbers)
        }
    }

    impl Tensor {
        /// The numbers as an array of the tensor's shape; with feature `ndarray`.
        ///
        /// # Errors
        ///
        /// `INVALID_ARGUMENT` if the elements are of another type than `T`, or do not fit the shape.
        pub fn to_array<T: Element>(&self) -> Result<ArrayD<T>> {
            let shape: Vec<usize> = self.shape.iter().map(|&n| n.max(0) as usize).collect();
            ArrayD::from_shape_vec(shape, self.to_vec()?)
                .map_err(|error| Error::field("shape", error.to_string()))
        }

        /// The numbers of a tensor of two dimensions; with feature `ndarray`.
        ///
        /// # Errors
        ///
        /// As [`Tensor::to_array`], and `INVALID_ARGUMENT` if there are not two dimensions.
        pub fn to_array2<T: Element>(&self) -> Result<Array2<T>> {
            let array = self.to_array::<T>()?;
            array.into_dimensionality::<Ix2>().map_err(|_| {
                Error::field("shape", format!("expected two dimensions, got {:?}", self.shape))
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_are_not_copied() {
        let numbers = vec![1.0f32, 2.0, 3.0];
        let address = numbers.as_ptr() as usize;
        let tensor = Tensor::from_vec(&[3, 1], numbers);
        assert_eq!(tensor.raw.as_ptr() as usize, address);
        assert!(matches!(tensor.as_slice::<f32>().unwrap(), Cow::Borrowed([1.0, 2.0, 3.0])));
        let part = tensor.slice(1, 2);
        assert_eq!(part.raw.as_ptr() as usize, address + 4);
        assert_eq!(part.shape, [2, 1]);
    }

    #[test]
    fn bytes_are_little_endian_or_say_so() {
        let tensor = Tensor::from(&[1i32, 256]);
        assert_eq!(&tensor.stored_as::<i32>().unwrap()[..], [1, 0, 0, 0, 0, 1, 0, 0]);
        let big = Tensor {
            raw: Bytes::from_static(&[0x3f, 0x80, 0, 0, 0xc0, 0, 0, 0]),
            shape: vec![2],
            data_type: DataType::Float32 as i32,
            byte_order: ByteOrder::BigEndian as i32,
            ..Default::default()
        };
        assert_eq!(big.to_vec::<f32>().unwrap(), [1.0, -2.0]);
        assert_eq!(&big.stored_as::<f32>().unwrap()[..], [0, 0, 0x80, 0x3f, 0, 0, 0, 0xc0]);
    }

    #[test]
    fn unaligned_bytes_are_read() {
        let raw = Bytes::from([&[9u8][..], bytemuck::bytes_of(&2.5f64)].concat()).slice(1..);
        let tensor = Tensor::from_raw::<f64>(&[1], raw);
        assert_eq!(tensor.to_vec::<f64>().unwrap(), [2.5]);
    }

    #[test]
    fn shapes_are_compared_with_elements() {
        for (shape, fits) in [
            (&[2, 3][..], true),
            (&[6], true),
            (&[2, 2], false),
            (&[7, 1], false),
            (&[0, 6], false),
        ] {
            let batch = Batch::with_targets(Tensor::from_vec(shape, vec![0.0f32; 6]), &[1.0f64]);
            let checked = batch.check("data");
            assert_eq!(checked.is_ok(), fits, "{shape:?}");
            if let Err(error) = checked {
                assert_eq!(error.violations()[0].field, "data.inputs.raw");
            }
        }
        let huge = Tensor::from_vec(&[usize::MAX, usize::MAX, usize::MAX], vec![0.0f32]);
        assert!(huge.check("inputs").is_err());
        let error = Tensor::from(&[[1.0f32; 3]; 2]).slice(0, 2);
        assert!(error.check("inputs").is_ok());
    }

    #[test]
    fn types_are_not_mixed_up() {
        let error = Tensor::from(&[1.0f32]).to_vec::<f64>().unwrap_err();
        assert_eq!(error.violations()[0].field, "data_type");
        assert_eq!(Tensor::from(&[1.5f32]).to_f64s().unwrap(), [1.5]);
    }

    #[cfg(feature = "ndarray")]
    #[test]
    fn arrays_of_every_layout_become_rows() {
        use ndarray::{array, s};
        let rows = Tensor::from(&[[1.0f32, 2.0, 3.0], [4.0, 5.0, 6.0]]);
        let array = array![[1.0f32, 2.0, 3.0], [4.0, 5.0, 6.0]];
        assert_eq!(Tensor::from(&array), rows);
        let columns = array![[1.0f32, 4.0], [2.0, 5.0], [3.0, 6.0]];
        assert_eq!(Tensor::from(&columns.t()), rows);
        assert_eq!(Tensor::from(columns.reversed_axes()), rows);
        let part = array.clone().slice_move(s![1.., ..]);
        assert_eq!(Tensor::from(part), rows.slice(1, 1));
        let address = array.as_ptr() as usize;
        let moved = Tensor::from(array);
        assert_eq!(moved.raw.as_ptr() as usize, address);
        assert_eq!(moved.to_array2::<f32>().unwrap().row(1).to_vec(), [4.0, 5.0, 6.0]);
        assert!(Tensor::from(&[1.0f32]).to_array2::<f32>().is_err());
    }

    #[test]
    fn checksums_are_of_what_is_stored() {
        // The value is zlib's crc32 of the little-endian bytes of 1.5f32, 2i32.
        let narrow = Batch::with_labels(&[[1.5f32]], &[2i32]);
        let wide = Batch::with_labels(&[[1.5f64]], &[2i64]);
        let crc = narrow.stored_crc32(DataType::Float32).unwrap();
        assert_eq!(crc, Some(crc32fast::hash(&[0, 0, 0xc0, 0x3f, 2, 0, 0, 0])));
        assert_eq!(wide.stored_crc32(DataType::Float32).unwrap(), crc);
        assert_ne!(wide.stored_crc32(DataType::Float64).unwrap(), crc);
        let named = Batch::with_label_names(&[[1.5f32]], ["a"]);
        assert_eq!(named.stored_crc32(DataType::Float32).unwrap(), None);
    }
}
