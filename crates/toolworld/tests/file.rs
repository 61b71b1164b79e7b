//! That the file people are told to use declares the world as it is.

#[test]
fn the_file_of_the_documentation_is_the_catalogue_of_the_tests() {
    let text = include_str!("../memory.toml");
    let deployment = understudy_memory::Deployment::parse(text).unwrap();
    assert_eq!(deployment.catalogue, understudy_toolworld::catalogue());
}
