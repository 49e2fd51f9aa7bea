"""Names of variables: how they are spelled, selected and made unique."""
