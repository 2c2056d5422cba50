//! The page's requests are answered as the page says.

use e2e::{TestHost, acceptance::Case};

#[test]
fn every_request_of_the_python_page_is_answered_as_it_says() {
    let host = TestHost::prepared();
    let mut wrong = Vec::new();
    for case in Case::python() {
        let (_, answer) = host.request(&case.request());
        wrong.extend(
            case.differences(&answer).iter().map(|difference| format!("{}: {difference}", case.name)),
        );
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
