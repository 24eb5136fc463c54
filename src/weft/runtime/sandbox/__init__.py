"""Walls around what a model wrote: one interface, several sandboxes, chosen by need and by what the machine offers."""

from __future__ import annotations
