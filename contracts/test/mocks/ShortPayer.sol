// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";

/// @notice A token that moves some units more or fewer than asked, and says nothing. TEST ONLY.
contract ShortPayer is ERC20 {
    int256 private _excess;

    constructor() ERC20("Short", "SHORT") {}

    function mint(address to, uint256 amount) external {
        _mint(to, amount);
    }

    /// @notice From now on so many units more arrive, or fewer.
    function setExcess(int256 excess) external {
        _excess = excess;
    }

    function transferFrom(address, address to, uint256 amount) public override returns (bool) {
        _arrive(to, amount);
        return true;
    }

    /// @notice EIP-3009, with anything for a signature.
    function receiveWithAuthorization(
        address,
        address to,
        uint256 amount,
        uint256,
        uint256,
        bytes32,
        uint8,
        bytes32,
        bytes32
    )
        external
    {
        _arrive(to, amount);
    }

    function receiveWithAuthorization(
        address,
        address to,
        uint256 amount,
        uint256,
        uint256,
        bytes32,
        bytes calldata
    )
        external
    {
        _arrive(to, amount);
    }

    function _arrive(address to, uint256 amount) private {
        // forge-lint: disable-next-line(unsafe-typecast) -- tests use small amounts
        _mint(to, uint256(int256(amount) + _excess));
    }
}
