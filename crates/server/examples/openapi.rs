//! Prints the `OpenAPI` document, for `cargo xtask openapi`.

#[expect(clippy::print_stdout, reason = "it is what this is for")]
fn main() {
    println!("{:#}", server::document());
}
