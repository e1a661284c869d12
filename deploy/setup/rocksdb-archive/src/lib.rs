//! Nothing: compiling the dependency is the point.
