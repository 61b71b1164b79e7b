-- Which of the registry's decisions were carried out here, by name: each is carried out once.
CREATE TABLE settled (
    what TEXT PRIMARY KEY,
    at   TEXT NOT NULL
) STRICT;
