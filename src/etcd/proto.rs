//! Protobuf's wire format, as far as etcd's files need it: fields in their order, bounded by their message.

/// A field's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Value<'a> {
    /// Wire type 0.
    Number(u64),
    /// Wire type 2.
    Bytes(&'a [u8]),
    /// Wire types 1 and 5: read over.
    Fixed,
}

/// The fields of a message. An error ends them.
pub(crate) struct Fields<'a> {
    left: &'a [u8],
}

/// That bytes are no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NoMessage;

pub(crate) fn fields(message: &[u8]) -> Fields<'_> {
    Fields { left: message }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u64, Value<'a>), NoMessage>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left.is_empty() {
            return None;
        }
        let field = self.field().ok_or(NoMessage);
        if field.is_err() {
            self.left = &[];
        }
        Some(field)
    }
}

impl<'a> Fields<'a> {
    fn field(&mut self) -> Option<(u64, Value<'a>)> {
        let tag = self.varint()?;
        let value = match tag & 7 {
            0 => Value::Number(self.varint()?),
            1 => self.bytes(8).map(|_| Value::Fixed)?,
            2 => {
                let length = self.varint()?;
                Value::Bytes(self.bytes(length)?)
            }
            5 => self.bytes(4).map(|_| Value::Fixed)?,
            _ => return None,
        };
        let number = tag >> 3;
        (number > 0).then_some((number, value))
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let (first, rest) = self.left.split_first()?;
            self.left = rest;
            value |= u64::from(first & 0x7f) << shift;
            if first & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn bytes(&mut self, length: u64) -> Option<&'a [u8]> {
        let length = usize::try_from(length).ok().filter(|length| *length <= self.left.len())?;
        let (bytes, rest) = self.left.split_at(length);
        self.left = rest;
        Some(bytes)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn fields_come_in_order_and_an_error_ends_them() {
        let read: Vec<_> = fields(&[0x08, 0x96, 0x01, 0x12, 2, b'h', b'i']).collect();
        assert_eq!(read, [Ok((1, Value::Number(150))), Ok((2, Value::Bytes(b"hi")))]);
        assert_eq!(fields(&[0x12, 200, b'h']).collect::<Vec<_>>(), [Err(NoMessage)], "longer than what there is");
        assert_eq!(fields(&[0x0b]).collect::<Vec<_>>(), [Err(NoMessage)], "a group");
        assert_eq!(fields(&[0xff; 11]).collect::<Vec<_>>(), [Err(NoMessage)], "a number without end");
    }

    proptest! {
        #[test]
        fn any_bytes_end(bytes: Vec<u8>) {
            prop_assert!(fields(&bytes).count() <= bytes.len());
        }
    }
}
