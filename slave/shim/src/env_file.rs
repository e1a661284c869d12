//! Files of variables: `KEY=VALUE` lines as a host's owner writes them. Nothing is expanded and nothing spans lines, so
//! that every reader sees the same in them.

use std::fmt;

/// Largest file that is read, in bytes: the kernel passes on no more than a few of these.
pub const FILE_BYTES_MAX: u64 = 256 * 1024;

/// A line that is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadLine {
    /// Its number, from 1.
    pub line: usize,
    /// What is wrong.
    pub what: &'static str,
}

impl fmt::Display for BadLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.what)
    }
}

/// A variable's name and value.
pub type Variable = (Vec<u8>, Vec<u8>);

/// The variables in their order; a name may come again, and its last value counts. Blank lines and lines that begin with
/// `#` are passed over. A value goes to the end of its line without the blanks around it; within single quotes
/// everything is meant as it stands, within double quotes all but a backslash before `"`, `\`, `$` or `` ` ``.
pub fn parse(bytes: &[u8]) -> Result<Vec<Variable>, BadLine> {
    let lines = bytes.split(|byte| *byte == b'\n').enumerate();
    let found = lines.filter_map(|(at, line)| {
        variable(line.trim_ascii()).map_err(|what| BadLine { line: at + 1, what }).transpose()
    });
    found.collect()
}

fn variable(line: &[u8]) -> Result<Option<Variable>, &'static str> {
    if line.is_empty() || line.starts_with(b"#") {
        return Ok(None);
    }
    let Some(equals) = line.iter().position(|byte| *byte == b'=') else { return Err("no KEY=VALUE") };
    let (key, rest) = (&line[..equals], line[equals + 1..].trim_ascii_start());
    if key.is_empty() || !key.iter().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\'')) {
        return Err("no variable name before the '='");
    }
    if line.contains(&0) {
        return Err("a NUL character");
    }
    let value = match rest.first() {
        Some(b'\'') => single_quoted(&rest[1..])?,
        Some(b'"') => double_quoted(&rest[1..])?,
        Some(_) | None => rest.to_vec(),
    };
    Ok(Some((key.to_vec(), value)))
}

const NOT_CLOSED: &str = "a quote that is not closed";

fn single_quoted(text: &[u8]) -> Result<Vec<u8>, &'static str> {
    let end = text.iter().position(|byte| *byte == b'\'').ok_or(NOT_CLOSED)?;
    after_quote(&text[end + 1..])?;
    Ok(text[..end].to_vec())
}

fn double_quoted(text: &[u8]) -> Result<Vec<u8>, &'static str> {
    let mut value = Vec::new();
    let mut rest = text;
    loop {
        match rest {
            [] => return Err(NOT_CLOSED),
            [b'"', after @ ..] => {
                after_quote(after)?;
                return Ok(value);
            }
            [b'\\', escaped @ (b'"' | b'\\' | b'$' | b'`'), after @ ..] => {
                value.push(*escaped);
                rest = after;
            }
            [byte, after @ ..] => {
                value.push(*byte);
                rest = after;
            }
        }
    }
}

/// Only a comment may follow a closing quote.
fn after_quote(rest: &[u8]) -> Result<(), &'static str> {
    match rest.trim_ascii_start() {
        [] | [b'#', ..] => Ok(()),
        _ => Err("something after the closing quote"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_mean_what_they_say() {
        for (text, expected) in [
            ("", vec![]),
            ("\n  \n# A=1\n  # B=2\n", vec![]),
            ("A=1\nB=\r\n", vec![("A", "1"), ("B", "")]),
            ("  A=  two words \t\n", vec![("A", "two words")]),
            ("A=a#b # c", vec![("A", "a#b # c")]),
            ("A='$x \\ \" # '", vec![("A", "$x \\ \" # ")]),
            ("A=\" \\\"q\\\" \\$x \\\\ \\n \" # why", vec![("A", " \"q\" $x \\ \\n ")]),
            ("A=b'c\"", vec![("A", "b'c\"")]),
            ("A==", vec![("A", "=")]),
            ("A=1\nA=2", vec![("A", "1"), ("A", "2")]),
        ] {
            let expected: Vec<Variable> =
                expected.into_iter().map(|(key, value)| (key.as_bytes().to_vec(), value.as_bytes().to_vec())).collect();
            assert_eq!(parse(text.as_bytes()), Ok(expected), "{text:?}");
        }
    }

    #[test]
    fn what_is_no_line_is_named_by_its_number() {
        for (text, line, what) in [
            ("A", 1, "no KEY=VALUE"),
            ("A=1\n\n=x", 3, "no variable name before the '='"),
            ("A =1", 1, "no variable name before the '='"),
            ("A=1\nexport B=2", 2, "no variable name before the '='"),
            ("A='x", 1, "a quote that is not closed"),
            ("A=\"x\nB=y\"", 1, "a quote that is not closed"),
            ("A=\"x\\\"", 1, "a quote that is not closed"),
            ("A='x'y", 1, "something after the closing quote"),
            ("A=\0", 1, "a NUL character"),
        ] {
            assert_eq!(parse(text.as_bytes()), Err(BadLine { line, what }), "{text:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::prelude::any::<Vec<u8>>()) {
            let _ = parse(&bytes);
        }
    }
}
