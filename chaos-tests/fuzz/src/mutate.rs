//! New inputs out of old ones. A seed, a target and a number give one input, always the same.

use std::hash::{DefaultHasher, Hash, Hasher};

use fastrand::Rng;

/// Longest input that is made: readers with larger bounds meet them in the corpus.
const BYTES_MAX: usize = 16 * 1_024;
/// Changes that lead from an old input to a new one.
const CHANGES_MAX: usize = 8;
/// Where lengths, counts and numbers turn.
const INTEGERS: [u64; 16] = [
    0,
    1,
    0x7f,
    0x80,
    0xff,
    0x100,
    0x3ff,
    0x7fff,
    0xffff,
    0x10_0000,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x7fff_ffff_ffff_ffff,
    0x8000_0000_0000_0000,
    u64::MAX,
];

/// Makes inputs for one target.
pub struct Mutator<'a> {
    corpus: &'a [Vec<u8>],
    words: &'a [Vec<u8>],
    seed: u64,
}

impl<'a> Mutator<'a> {
    /// Changes these inputs, and puts these words into them. `name` keeps the inputs of several targets apart.
    pub fn new(name: &str, seed: u64, corpus: &'a [Vec<u8>], words: &'a [Vec<u8>]) -> Self {
        let mut hasher = DefaultHasher::new();
        (name, seed).hash(&mut hasher);
        Self { corpus, words, seed: hasher.finish() }
    }

    /// The input of this number.
    pub fn input(&self, number: u64) -> Vec<u8> {
        let mut rng = Rng::with_seed(self.seed.wrapping_add(number.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
        let mut input = rng.choice(self.corpus).cloned().unwrap_or_default();
        for _ in 0..rng.usize(1..=CHANGES_MAX) {
            self.change(&mut rng, &mut input);
        }
        input.truncate(BYTES_MAX);
        input
    }

    fn change(&self, rng: &mut Rng, input: &mut Vec<u8>) {
        let at = rng.usize(..=input.len());
        match rng.u8(..12) {
            0 | 1 => flip(rng, input),
            2 => put(input, at, &[rng.u8(..)]),
            3 => {
                let bytes: Vec<u8> = (0..rng.usize(1..9)).map(|_| rng.u8(..)).collect();
                insert(input, at, &bytes);
            }
            4 => drop(input.drain(piece(rng, input.len()))),
            5 => {
                let again = input[piece(rng, input.len())].to_vec();
                insert(input, at, &again);
            }
            6 => input.truncate(at),
            7 | 8 => integer(rng, input, at),
            9 => {
                // The beginning of this one and the end of another.
                if let Some(other) = rng.choice(self.corpus) {
                    input.truncate(at);
                    input.extend_from_slice(&other[rng.usize(..=other.len())..]);
                }
            }
            10 => {
                if let Some(other) = rng.choice(self.corpus) {
                    let bytes = &other[piece(rng, other.len())];
                    if rng.bool() { put(input, at, bytes) } else { insert(input, at, bytes) }
                }
            }
            _ => match rng.choice(self.words) {
                Some(word) if rng.bool() => insert(input, at, word),
                Some(word) => put(input, at, word),
                None => flip(rng, input),
            },
        }
    }
}

fn flip(rng: &mut Rng, input: &mut [u8]) {
    if !input.is_empty() {
        input[rng.usize(..input.len())] ^= 1 << rng.u8(..8);
    }
}

/// A short or, now and then, a long piece.
fn piece(rng: &mut Rng, length: usize) -> std::ops::Range<usize> {
    let begin = rng.usize(..=length);
    let most = if rng.u8(..4) == 0 { length - begin } else { (length - begin).min(16) };
    begin..begin + rng.usize(..=most)
}

fn insert(input: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    input.splice(at..at, bytes.iter().copied());
}

fn put(input: &mut [u8], at: usize, bytes: &[u8]) {
    let end = input.len().min(at + bytes.len());
    input[at..end].copy_from_slice(&bytes[..end - at]);
}

/// A number of interest, or one beside it, in one of the sizes and orders that numbers are written in.
fn integer(rng: &mut Rng, input: &mut Vec<u8>, at: usize) {
    let near = [0, 1, u64::MAX][rng.usize(..3)];
    let number = INTEGERS[rng.usize(..INTEGERS.len())].wrapping_add(near);
    let size = [1, 2, 4, 8][rng.usize(..4)];
    let mut bytes = number.to_le_bytes()[..size].to_vec();
    match rng.u8(..4) {
        0 => bytes.reverse(),
        1 => bytes = number.to_string().into_bytes(),
        _ => {}
    }
    if rng.bool() { put(input, at, &bytes) } else { insert(input, at, &bytes) }
}
