"""Users, profiles and the roles that users hold."""
