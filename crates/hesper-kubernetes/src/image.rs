//! Names of container images.

/// The parts of `registry:5000/group/name:tag@sha256:…`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Image<'a> {
    /// With the registry.
    pub repository: &'a str,
    /// Without one there is `latest`.
    pub tag: Option<&'a str>,
    /// `sha256:…`
    pub digest: Option<&'a str>,
}

impl<'a> Image<'a> {
    /// Reads a name; `None` when it is empty.
    pub fn parse(name: &'a str) -> Option<Self> {
        let (rest, digest) = match name.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest)),
            None => (name, None),
        };
        // A colon before the last slash is that of a port.
        let last = rest.rfind('/').map_or(0, |slash| slash + 1);
        let (repository, tag) = match rest[last..].rfind(':') {
            Some(colon) => (&rest[..last + colon], Some(&rest[last + colon + 1..])),
            None => (rest, None),
        };
        Some(Self { repository, tag, digest }).filter(|image| !image.repository.is_empty())
    }

    /// What is attached as `container.image.tag`.
    pub fn tag_or_latest(&self) -> &'a str {
        match (self.tag, self.digest) {
            (Some(tag), _) => tag,
            (None, None) => "latest",
            (None, Some(_)) => "",
        }
    }

    /// The version that the image says: tag and digest, as far as they are there.
    pub fn version(&self) -> Option<String> {
        match (self.tag, self.digest) {
            (Some(tag), Some(digest)) => Some(format!("{tag}@{digest}")),
            (tag, digest) => tag.or(digest).map(str::to_owned),
        }
    }
}

/// The digest of an image that runs (`status.imageID`), with its repository; what stands before it for some runtimes is left out.
pub fn repo_digest(image_id: &str) -> Option<&str> {
    let name = image_id.split_once("://").map_or(image_id, |(_, name)| name);
    Some(name).filter(|name| Image::parse(name).is_some_and(|image| image.digest.is_some()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_parts() {
        for (name, repository, tag, digest, version) in [
            ("nginx", "nginx", "latest", None, None),
            ("nginx:1.2", "nginx", "1.2", None, Some("1.2")),
            ("host:5000/a/b", "host:5000/a/b", "latest", None, None),
            ("host:5000/a/b:c", "host:5000/a/b", "c", None, Some("c")),
            ("a/b@sha256:12", "a/b", "", Some("sha256:12"), Some("sha256:12")),
            ("a/b:c@sha256:12", "a/b", "c", Some("sha256:12"), Some("c@sha256:12")),
        ] {
            let image = Image::parse(name).expect(name);
            assert_eq!((image.repository, image.tag_or_latest(), image.digest), (repository, tag, digest));
            assert_eq!(image.version().as_deref(), version, "{name}");
        }
        assert_eq!(Image::parse(""), None);
        assert_eq!(repo_digest("docker-pullable://a/b@sha256:12"), Some("a/b@sha256:12"));
        assert_eq!(repo_digest("sha256:12"), None);
    }
}
