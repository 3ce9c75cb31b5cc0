"""Swapped models beside the ones they were: do they train as well with the same optimizer and learning rate?"""
