//! The protobuf wire format, as much as it takes to look into an ONNX file without copying or trusting it.

use crate::error::RuntimeError;

/// One value of one field.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Value<'a> {
    /// Wire type 0.
    Varint(u64),
    /// Wire types 1 and 5: 8 or 4 bytes.
    Fixed(&'a [u8]),
    /// Wire type 2: a string, message or packed list.
    Bytes(&'a [u8]),
}

impl<'a> Value<'a> {
    /// The bytes of a string, message or packed list; a number has none.
    pub(super) fn bytes(self) -> Result<&'a [u8], RuntimeError> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            _ => Err(broken("a number where a message is expected")),
        }
    }

    /// The text of a string field.
    pub(super) fn text(self) -> Result<&'a str, RuntimeError> {
        std::str::from_utf8(self.bytes()?).map_err(|_| broken("a name is not UTF-8"))
    }

    /// The number of an integer field.
    pub(super) fn int(self) -> Result<i64, RuntimeError> {
        match self {
            Self::Varint(number) => Ok(number as i64),
            _ => Err(broken("bytes where a number is expected")),
        }
    }

    /// Appends the integers of a repeated field, packed or not.
    pub(super) fn ints(self, into: &mut Vec<i64>) -> Result<(), RuntimeError> {
        match self {
            Self::Varint(number) => into.push(number as i64),
            Self::Bytes(mut bytes) => {
                while !bytes.is_empty() {
                    into.push(varint(&mut bytes)? as i64);
                }
            }
            Self::Fixed(_) => return Err(broken("a fixed number in a list of integers")),
        }
        Ok(())
    }
}

/// Iterates over the fields of one message.
#[derive(Clone, Debug)]
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u64, Value<'a>), RuntimeError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = field(&mut self.0);
        if field.is_err() {
            self.0 = &[];
        }
        Some(field)
    }
}

fn field<'a>(rest: &mut &'a [u8]) -> Result<(u64, Value<'a>), RuntimeError> {
    let tag = varint(rest)?;
    let value = match tag & 7 {
        0 => Value::Varint(varint(rest)?),
        1 => Value::Fixed(take(rest, 8)?),
        2 => {
            let length = varint(rest)?;
            Value::Bytes(take(rest, length)?)
        }
        5 => Value::Fixed(take(rest, 4)?),
        _ => return Err(broken("an unknown wire type")),
    };
    Ok((tag >> 3, value))
}

fn take<'a>(rest: &mut &'a [u8], length: u64) -> Result<&'a [u8], RuntimeError> {
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    let (head, tail) = rest.split_at_checked(length).ok_or_else(|| broken("it ends in the middle of a field"))?;
    *rest = tail;
    Ok(head)
}

fn varint(rest: &mut &[u8]) -> Result<u64, RuntimeError> {
    let mut number = 0u64;
    for shift in (0..64).step_by(7) {
        let [byte] = take(rest, 1)? else { return Err(broken("it ends in the middle of a number")) };
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err(broken("a number of more than ten bytes"))
}

/// A file that is not protobuf.
fn broken(what: &str) -> RuntimeError {
    RuntimeError::Malformed(format!("the protobuf is broken: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_every_wire_type_are_read() {
        let bytes = [8, 0x96, 1, 18, 2, b'h', b'i', 29, 1, 2, 3, 4];
        let fields: Vec<_> = Fields(&bytes).map(Result::unwrap).collect();
        assert_eq!(fields, [(1, Value::Varint(150)), (2, Value::Bytes(b"hi")), (3, Value::Fixed(&[1, 2, 3, 4]))]);
        assert_eq!(fields[1].1.text().unwrap(), "hi");
    }

    #[test]
    fn packed_integers_read_like_single_ones() {
        let mut ints = vec![];
        Value::Varint(7).ints(&mut ints).unwrap();
        Value::Bytes(&[3, 0x96, 1]).ints(&mut ints).unwrap();
        Value::Varint(u64::MAX).ints(&mut ints).unwrap();
        assert_eq!(ints, [7, 3, 150, -1]);
    }

    #[test]
    fn cut_off_bytes_are_an_error_and_end_the_iteration() {
        for bytes in
            [&[8][..], &[18, 9, 1], &[8, 0x80], &[0x0b], &[8, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255]]
        {
            let mut fields = Fields(bytes);
            assert!(fields.next().unwrap().is_err(), "{bytes:?}");
            assert!(fields.next().is_none());
        }
    }
}
