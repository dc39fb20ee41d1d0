"""A model server whose answers its requests dictate, and which counts them."""
